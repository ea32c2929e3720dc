"`python -m fastai_mixmatch`: the commands of `fastai_mixmatch.cli`"
import sys
from fastai_mixmatch.cli import main

if __name__=='__main__': sys.exit(main())
