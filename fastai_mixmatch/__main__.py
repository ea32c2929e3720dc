"The program `fastai-mixmatch`, and `python -m fastai_mixmatch`"
import sys, warnings

def main():
    warnings.filterwarnings('ignore', category=FutureWarning) # Of libraries, while they are imported
    from fastai_mixmatch.cli import main as run
    sys.exit(run())

if __name__=='__main__': main()
