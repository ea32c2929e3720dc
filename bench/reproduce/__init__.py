"Every experiment of the article, and the ablations of the paper: `python bench/reproduce --list`."
