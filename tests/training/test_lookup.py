import torch

from sasrec.training.lookup import lookup

FIRST, SECOND = torch.tensor([[2, 0], [3, 2]]), torch.tensor([3, 1])


def test_a_lookup_returns_the_rows_at_each_index() -> None:
    table = torch.arange(8.0).view(4, 2)
    first, second = lookup(table, FIRST, SECOND)
    assert first.tolist() == [[[4, 5], [0, 1]], [[6, 7], [4, 5]]]
    assert second.tolist() == [[6, 7], [2, 3]]


def test_the_gradient_of_a_row_is_the_sum_over_its_lookups_and_the_padding_has_none() -> None:
    table = torch.zeros(5, 1, requires_grad=True)
    first, second = lookup(table, FIRST, SECOND)
    upstream = torch.tensor([[[1.0], [10.0]], [[100.0], [1000.0]]]), torch.tensor([[1e4], [1e5]])
    (gradient,) = torch.autograd.grad((first, second), table, upstream)
    assert gradient.flatten().tolist() == [0, 1e5, 1001, 10100, 0]


def test_the_gradient_does_not_depend_on_the_number_of_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.zeros(100, 36, requires_grad=True)
    indices, upstream = torch.randint(100, (20_000,), generator=generator), torch.randn(20_000, 36, generator=generator)
    num_threads = torch.get_num_threads()
    gradients = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        gradients += torch.autograd.grad(lookup(table, indices), table, [upstream])
    torch.set_num_threads(num_threads)
    assert gradients[0].equal(gradients[1])
    assert gradients[0].equal(gradients[2])
