"Networks: the wide residual network against loops over its definition in float64 numpy; sizes, and images of any form."
import numpy as np, oracle, pytest, torch
from fastai_mixmatch.models import load_weights, small_cnn, wrn, wrn_28_2

def arrays(m): return {k: v.detach().double().numpy() for k, v in m.state_dict().items()}

def wide_residual(p, x, n, train):
    "Stem, three stages of `n` blocks, mean and linear layer, written from the official code; `p` are parameters and buffers by name"
    def norm(x, name): return leaky(oracle.bn_fwd(x, p, p, name, train, eps=1e-3)[0])
    def leaky(x): return np.where(x > 0, x, .1*x)
    def conv(x, name, stride=1): return oracle.conv_fwd(x, p[f'{name}.weight'], stride)[0]
    x = conv(x, 'body.0')
    for i in range(3*n):
        b, stride = f'body.{i+1}', 2 if i in (n, 2*n) else 1
        a = norm(x, f'{b}.pre.0')
        if i == 0: x = a                # the shortcut of the first block starts after its activation
        short = p.get(f'{b}.short.weight')
        y = conv(norm(conv(a, f'{b}.convs.0', stride), f'{b}.convs.1.0'), f'{b}.convs.2')
        x = y + (x if short is None else np.einsum('bihw,oi->bohw', x[:, :, ::stride, ::stride], short[:, :, 0, 0]))
    x = norm(x, f'body.{3*n+1}.0').mean(axis=(2, 3))
    return x @ p['head.2.weight'].T + p['head.2.bias']

@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('depth, width, size', [(10, 1, (8, 8)), (16, 2, (9, 6))])
def test_wide_residual_network(depth, width, size, train):
    m = wrn(depth, width)(2, 5).double().train(train)
    for o in m.modules():
        if isinstance(o, torch.nn.BatchNorm2d):
            for t in (o.weight.data, o.running_var): t.uniform_(.5, 2)
            for t in (o.bias.data, o.running_mean): t.uniform_(-1, 1)
    x, p = torch.randn(6, 2, *size, dtype=torch.double), arrays(m)
    want = wide_residual(p, x.numpy(), (depth-4)//6, train)
    assert want.std() > .01
    np.testing.assert_allclose(m(x).detach().numpy(), want, rtol=0, atol=1e-10)

def test_size_and_start():
    "1.5 million parameters; convolutions from a normal distribution of variance 2/(9 n_out), no bias; batch norms remember a tenth."
    m = wrn_28_2()
    convs = [o for o in m.modules() if isinstance(o, torch.nn.Conv2d)]
    assert sum(o.numel() for o in m.parameters()) == 1_467_610 and len(convs) == 28 and all(o.bias is None for o in convs)
    for o in convs:
        z = o.weight.detach()*(o.weight[0, 0].numel()*o.out_channels/2)**.5
        assert abs(z.std()-1) < 5*(2*z.numel())**-.5 and abs(z.mean()) < 5*z.numel()**-.5
    assert {o.momentum for o in m.modules() if isinstance(o, torch.nn.BatchNorm2d)} == {.1}

@pytest.mark.parametrize('arch', [wrn(10, 1), small_cnn])
@pytest.mark.parametrize('n_in, n_out, size', [(1, 2, (8, 8)), (4, 7, (17, 5)), (3, 100, (32, 32)), (2, 3, (1, 1))])
def test_any_image(arch, n_in, n_out, size):
    out = arch(n_in, n_out)(torch.randn(3, n_in, *size))
    assert out.shape == (3, n_out) and out.isfinite().all()

@pytest.mark.parametrize('content', [b'', b'root:x:0:0\n', b'<html>', b'PK\3\4abc'], ids=['empty','text','page','cut'])
def test_a_file_that_holds_no_weights(tmp_path, content):
    (tmp_path/'w.pth').write_bytes(content)
    with pytest.raises(ValueError, match='w.pth is not a file of weights'): load_weights(torch.nn.Linear(2, 2), tmp_path/'w.pth')
