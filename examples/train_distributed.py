"""MixMatch on all GPUs of a machine, or on two processes of a CPU: the handwritten digits, 40 of them labeled.

    torchrun --nproc_per_node 2 examples/train_distributed.py --epochs 5
    torchrun --nproc_per_node 2 examples/train_distributed.py --epochs 5 --shards      # the pool as a stream of tar files
    torchrun --nnodes 4 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint HOST:29500 examples/train_distributed.py

Needs `pip install accelerate webdataset`. `--bs` is the batch size of each process. The last line, printed once, is a JSON with the results.
"""
import argparse, importlib, json, math, os, tempfile
from pathlib import Path
import torch, webdataset as wds
from fastai.vision.all import ImageDataLoaders, PILImageBW, rank_distrib, set_seed
from fastai_mixmatch.all import *

def write_shards(files, folder, n):
    "`files` in `n` tar files or less"
    folder.mkdir(exist_ok=True)
    with wds.ShardWriter(str(folder/'%04d.tar'), maxcount=math.ceil(len(files)/n), verbose=0) as out:
        for f in files: out.write({'__key__': f.stem, 'png': f.read_bytes()})

def read_shards(folder):
    "A stream of the images of the tar files in `folder`, of which each worker of each process takes its own"
    return wds.WebDataset(sorted(map(str, folder.glob('*.tar'))), nodesplitter=wds.split_by_node, shardshuffle=100).shuffle(1000).to_tuple('png')

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
    pool,steps = (read_shards(path.parent/'shards'),n//(a.bs*world)) if a.shards else (path/'unlabeled',None)
    learn = mixmatch_learner(dls, pool, arch=small_cnn, steps=steps)
    with learn.distrib_ctx(sync_bn=a.sync_bn, cpu=not gpu): learn.fit_one_cycle(a.epochs)
    final = learn.final_record
    if rank_distrib()==0: print(json.dumps(dict(processes=world, steps=learn.train_iter, **dict(zip(learn.recorder.metric_names[1:], map(float, final))))))
    if torch.distributed.is_initialized(): torch.distributed.destroy_process_group()

if __name__=='__main__': main()
