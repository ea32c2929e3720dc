"The program `fastai-mixmatch`"
import sys, time, warnings

def main():
    start = time.monotonic()
    warnings.filterwarnings('ignore', category=FutureWarning) # Of libraries
    try:
        from .program import given
        given() # Before slow libraries
        from . import cli
    except KeyboardInterrupt: sys.exit(130)
    cli.started = start
    sys.exit(cli.main())

if __name__=='__main__': main()
