"""MixMatch on all GPUs of a machine, or on two processes of a CPU: the handwritten digits, 40 of them labeled.

    torchrun --nproc_per_node 2 examples/train_distributed.py --epochs 5
    torchrun --nproc_per_node 2 examples/train_distributed.py --epochs 5 --shards      # the pool as a stream of tar files
    torchrun --nnodes 4 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint HOST:29500 examples/train_distributed.py

Needs `pip install accelerate`. `--bs` is the batch size of each process. The last line, printed once, is a JSON with the results.
"""
import argparse, importlib, io, json, os, tarfile, tempfile
from pathlib import Path
import torch
from fastai.vision.all import ImageDataLoaders, PILImageBW, rank_distrib, set_seed
from torch.utils.data import IterableDataset
from fastai_mixmatch.all import *

class TarImages(IterableDataset):
    "The images of tar files, one after another; a part of the files for each of several readers"
    def __init__(self, files): self.files = list(files)
    def shard(self, num_shards, index): return TarImages(self.files[index::num_shards])
    def __iter__(self):
        for f in self.files:
            with tarfile.open(f) as tar:
                for member in tar: yield tar.extractfile(member).read()

def write_shards(files, folder, n):
    "`files` in `n` tar files"
    folder.mkdir(exist_ok=True)
    for i in range(n):
        with tarfile.open(folder/f'{i:04d}.tar', 'w') as tar:
            for f in files[i::n]:
                info = tarfile.TarInfo(f.name)
                info.size = f.stat().st_size
                tar.addfile(info, io.BytesIO(f.read_bytes()))
    return sorted(folder.glob('*.tar'))

def data(path, n_shards):
    "The folders of images, and the shards, written by the first process; the others wait"
    if rank_distrib()==0:
        digits_sample(path/'digits', 40)
        write_shards(sorted((path/'digits/unlabeled').glob('*.png')), path/'shards', n_shards)
    if torch.distributed.is_initialized(): torch.distributed.barrier()
    return path/'digits'

def main():
    importlib.import_module('fastai.distributed') # Gives a learner its `distrib_ctx`, and needs Accelerate
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--epochs', type=int, default=5); p.add_argument('--bs', type=int, default=32)
    p.add_argument('--shards', action='store_true'); p.add_argument('--workers', type=int, default=0)
    p.add_argument('--sync_bn', action='store_true', help='batch norm over all processes (CUDA only)'); p.add_argument('--path', type=Path)
    a = p.parse_args()
    gpu = torch.cuda.is_available()
    if gpu: torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
    if 'RANK' in os.environ: torch.distributed.init_process_group('nccl' if gpu else 'gloo')
    world = int(os.environ.get('WORLD_SIZE', 1))
    path = data(a.path or Path(tempfile.gettempdir())/'mixmatch_digits', 4*world)
    set_seed(rank_distrib())
    dls = ImageDataLoaders.from_folder(path, train='labeled', valid='test', img_cls=PILImageBW, bs=a.bs, num_workers=a.workers)
    n = len(list((path/'unlabeled').glob('*.png')))
    pool,steps = (TarImages(sorted((path.parent/'shards').glob('*.tar'))),n//(a.bs*world)) if a.shards else (path/'unlabeled',None)
    learn = mixmatch_learner(dls, pool, arch=small_cnn, steps=steps)
    with learn.distrib_ctx(sync_bn=a.sync_bn, cpu=not gpu): learn.fit_one_cycle(a.epochs)
    final = learn.final_record
    if rank_distrib()==0: print(json.dumps(dict(processes=world, steps=learn.train_iter, **dict(zip(learn.recorder.metric_names[1:], map(float, final))))))
    if torch.distributed.is_initialized(): torch.distributed.destroy_process_group()

if __name__=='__main__': main()
