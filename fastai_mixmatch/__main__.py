"The program `fastai-mixmatch`, and `python -m fastai_mixmatch`"
import sys, time, warnings

def main():
    start = time.monotonic()
    warnings.filterwarnings('ignore', category=FutureWarning) # Of libraries, while they are imported
    from fastai_mixmatch import cli
    cli.started = start
    sys.exit(cli.main())

if __name__=='__main__': main()
