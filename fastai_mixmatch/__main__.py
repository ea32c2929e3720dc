"The program `fastai-mixmatch`"
import os, sys, time

def main():
    start = time.monotonic()
    try:
        from .program import given
        given() # Before slow libraries
        from . import cli
        cli.started = start
        sys.exit(cli.main())
    except KeyboardInterrupt: sys.exit(130)
    except BrokenPipeError: os._exit(1)

if __name__=='__main__': main()
