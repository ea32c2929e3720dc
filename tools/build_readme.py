"""Write README.md, and its pictures in docs/images, from nbs/index.ipynb and its stored outputs.

The notebook's cells are nbdev's: those marked `#| hide` stay away, directive lines are dropped, `#| echo: false` keeps
only the output and `#| output: false` only the code. Code becomes ```python blocks (which `tools/run_readme.py` runs),
Markdown and HTML tables become Markdown, other text is indented below its block, pictures go to
docs/images/index_N.png. The same notebook always gives the same bytes."""
import argparse, base64, json, os, re, sys
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path

root = Path(__file__).resolve().parent.parent
notebook, images = 'nbs/index.ipynb', 'docs/images'
header = '<!-- Written by tools/build_readme.py from nbs/index.ipynb. Edit the notebook. -->'
_directive = re.compile(r'^\s*#\|\s*(.*?)\s*$')
_ansi = re.compile(r'\x1b\[[0-9;?]*[a-zA-Z]')
_link = re.compile(r'(\]\()([^)\s]+)(\))')

def metadata():
    "The `[DEFAULT]` section of settings.ini"
    p = ConfigParser(interpolation=None)
    p.read_string((root/'settings.ini').read_text(encoding='utf-8'))
    return p['DEFAULT']

def _text(o): return o if isinstance(o, str) else ''.join(o)

def split_directives(src):
    "The source without its `#|` lines, and what they said, as {name: value}"
    body, directives = [], {}
    for line in src.split('\n'):
        m = _directive.match(line)
        if m is None: body.append(line)
        elif m[1]:
            name, _, value = m[1].partition(':') if ':' in m[1] else m[1].partition(' ')
            directives[name.strip()] = value.strip()
    return '\n'.join(body).strip('\n').rstrip(), directives

class _Table(HTMLParser):
    "Collects the cells of the first HTML table"
    def __init__(self):
        super().__init__()
        self.rows, self.cell, self.depth, self.done = [], None, 0, False
    def handle_starttag(self, tag, attrs):
        if self.done: return
        if tag=='table': self.depth += 1
        if self.depth!=1: return
        if tag=='tr': self.rows.append([])
        if tag in ('td', 'th') and self.rows: self.cell,self.attrs = [],dict(attrs)
    def handle_endtag(self, tag):
        if self.done: return
        if tag in ('td', 'th') and self.cell is not None:
            text = ' '.join(''.join(self.cell).split()).replace('|', '\\|')
            self.rows[-1].append((text, int(self.attrs.get('rowspan', 1))))
            self.rows[-1] += [('', 1)]*(int(self.attrs.get('colspan', 1))-1)
            self.cell = None
        if tag=='table':
            self.depth -= 1
            self.done = self.depth==0
    def handle_data(self, data):
        if self.cell is not None: self.cell.append(data)

def filled(rows):
    "Rows of `(text, rows that it spans)` as rows of texts; below a text that spans several rows, the cells are empty"
    res,below = [],{} # Column → rows still to come
    for row in rows:
        cells,new = iter(row),[]
        while (o := ('', 0) if below.get(len(new)) else next(cells, None)) is not None:
            text,span = o
            below[len(new)] = span-1 if span else below[len(new)]-1
            new.append(text)
        res.append(new)
    return res

def html_table(html):
    "The first table of `html` as Markdown, or None if there is none"
    p = _Table()
    p.feed(html)
    rows = filled(r for r in p.rows if r)
    if not rows: return None
    n = max(map(len, rows))
    rows = [r + ['']*(n-len(r)) for r in rows]
    return '\n'.join('| ' + ' | '.join(r) + ' |' for r in [rows[0], ['---']*n, *rows[1:]])

def one_head(table):
    "A data frame's table with the names of its index in the head, not in a row below it"
    lines = (table or '').split('\n')
    if len(lines)<4: return table
    head,names = ([o.strip() for o in lines[i].strip('|').split(' | ')] for i in (0,2))
    n = next((i for i,o in enumerate(names) if not o), len(names))
    if not n or any(names[n:]) or n==len(names) or any(head[:n-1]): return table
    return '\n'.join(['| ' + ' | '.join(names[:n]+head[n:]) + ' |', lines[1], *lines[3:]])

def clean_text(s):
    "Terminal output as it looked at the end: no colors, and of an overwritten line only what stayed"
    lines = (line.rstrip('\r').rsplit('\r', 1)[-1].rstrip() for line in _ansi.sub('', s).split('\n'))
    return '\n'.join(lines).strip('\n')

def indented(s): return '\n'.join('    '+line if line else '' for line in s.split('\n'))

def relink(md, here, exists):
    "Relative links of a page in folder `here`, as seen from the repository's top; those whose file does not exist stay"
    def _f(m):
        url, hash_, anchor = m[2].partition('#')
        if not url or re.match(r'[a-z][a-z0-9+.-]*:|/', url): return m[0]
        path = os.path.normpath(f'{here}/{url}').replace(os.sep, '/')
        return f'{m[1]}{path}{hash_}{anchor}{m[3]}' if exists(path) else m[0]
    # what stands in a fence or in backticks is code, not a link
    parts = re.split(r'(^```.*?^```|`[^`\n]+`)', md, flags=re.M|re.S)
    return ''.join(p if i%2 else _link.sub(_f, p) for i, p in enumerate(parts))

def colab(repository, src):
    "Address that opens the notebook `src` of a repository on GitHub in Colab"
    return f"{repository.replace('https://github.com', 'https://colab.research.google.com/github')}/blob/main/{src}"

not_described = 'Before the first run','From 20 labels to a classifier','How good is it?','Where to go from here'

def described(md, repository):
    """README text for a package index, where nothing else of the repository is

    Relative links become those of `repository`. Without one, sentences that lead to a page go, pictures with their
    captions, and how to install a copy of the repository. What the site says better is not in it: notes on the first
    run, the run on digits, measurements, pages.
    """
    heads,gone = '|'.join(map(re.escape, not_described)),'\1'
    md = re.sub(rf'^<!--.*?-->\n|^## ({heads})\n.*?(?=^## |^MixMatch is by|\Z)', '', md, flags=re.M|re.S)
    if not repository: md = re.sub(r'^```sh\npip install \. .*\n```\n\n', '', md, flags=re.M)
    def _f(m):
        picture,text,url = m[1]=='!',m[2],m[3]
        if re.match(r'[a-z][a-z0-9+.-]*:|#', url): return m[0]
        if not repository: return gone
        return f"{m[1]}[{text}]({repository}/{'raw' if picture else 'blob'}/main/{url})"
    parts = re.split(r'(^```.*?^```|`[^`\n]+`)', md, flags=re.M|re.S)
    # A link's text may hold code, so parts are put together again before links are looked for
    kept = dict(enumerate(parts))
    text = ''.join(f'\0{i}\0' if i%2 else p for i,p in enumerate(parts))
    text = re.sub(r'(!?)\[([^\]]*)\]\(([^)\s]+)\)', _f, text)
    if not repository:
        text = re.sub(rf'^{gone}\n\n.+\n\n', '', text, flags=re.M)
        whole = [re.split(r"(?<=[.?!]) ", o) for o in text.split("\n")]
        text = "\n".join(" ".join(o for o in line if gone not in o) for line in whole)
    return re.sub(r'\0(\d+)\0', lambda m: kept[int(m[1])], text)

def render_output(out, pictures):
    "One stored output as Markdown, or None; a picture is added to `pictures`"
    kind = out['output_type']
    if kind=='error': raise ValueError(f"{notebook} has a stored error: {out.get('ename')}: {out.get('evalue')}")
    if kind=='stream':
        txt = clean_text(_text(out['text'])) if out.get('name')!='stderr' else ''
        return indented(txt) if txt else None
    data = {k: v if isinstance(v, dict) else _text(v) for k, v in out.get('data', {}).items()}
    if 'text/markdown' in data: return data['text/markdown'].strip('\n')
    if 'image/png' in data:
        name = f'{images}/index_{len(pictures)}.png'
        pictures[name] = base64.b64decode(data['image/png'])
        return f'![]({name})'
    table = one_head(html_table(data['text/html'])) if 'text/html' in data else None
    if table: return table
    txt = clean_text(data.get('text/plain', ''))
    # an object that shows itself as HTML alone (a progress bar) has only its address as text
    if not txt or re.fullmatch(r'<[\w.]+( object)?( at 0x[0-9a-f]+)?>', txt): return None
    return indented(txt)

def render(nb, exists=lambda p: (root/p).exists(), repository=''):
    "README text and {path: picture} of the notebook `nb` (a dict); with a badge where the `repository` has an address"
    parts, pictures = [header], {}
    if repository: parts.append('[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]'
                                f'({colab(repository, notebook)})')
    for cell in nb['cells']:
        src, directives = split_directives(_text(cell['source']))
        if 'hide' in directives or directives.get('include')=='false': continue
        if cell['cell_type']=='markdown':
            if src: parts.append(relink(src, os.path.dirname(notebook), exists))
        elif cell['cell_type']=='code':
            if src and directives.get('echo')!='false' and 'hide_input' not in directives:
                parts.append(f'```python\n{src}\n```')
            if directives.get('output')=='false' or 'hide_output' in directives: continue
            parts += [o for o in (render_output(out, pictures) for out in cell.get('outputs', [])) if o]
    return '\n\n'.join(parts) + '\n', pictures

def main(check=False):
    nb = json.loads((root/notebook).read_text(encoding='utf-8'))
    text, pictures = render(nb, repository=metadata()['repository'])
    old = {p.relative_to(root).as_posix() for p in (root/images).glob('index_*.png')}
    files = {'README.md': text.encode(), **pictures}
    stale = {p for p, b in files.items() if not (root/p).exists() or (root/p).read_bytes()!=b}
    stale = sorted(stale | (old - set(pictures)))
    if check:
        if stale: sys.exit(f"Not what {notebook} gives: {', '.join(stale)}. Run `make readme`.")
        return
    for p in old - set(pictures): (root/p).unlink()
    for p, b in files.items():
        (root/p).parent.mkdir(parents=True, exist_ok=True)
        (root/p).write_bytes(b)

if __name__=='__main__':
    parser = argparse.ArgumentParser(description='Write README.md from nbs/index.ipynb')
    parser.add_argument('--check', action='store_true', help='write nothing, fail where the files differ')
    main(**vars(parser.parse_args()))
