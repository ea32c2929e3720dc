"The program `fastai-mixmatch`"
import sys, time

def main():
    start = time.monotonic()
    try:
        from .program import given
        given() # Before slow libraries
        from . import cli
    except KeyboardInterrupt: sys.exit(130)
    cli.started = start
    sys.exit(cli.main())

if __name__=='__main__': main()
