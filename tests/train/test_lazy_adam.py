"""A table trained row by row: the same numbers as Adam over the whole of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from echoic.core.config import TrainConfig
from echoic.layers.dropout import Noise
from echoic.layers.embed import Embed
from echoic.train import lazy_adam, optim
from echoic.train.average import Average

WORDS, SIZE, STEPS = 40, 3, 250
Shadow = Callable[[int], Tensor]


def ids_of(step: int) -> Tensor:
    """Word 1 in every batch, 2..19 often, 20..38 seldom, 39 never; 0 is padding."""
    draw = torch.Generator().manual_seed(step)
    often = torch.randint(2, 20, (2, 4), generator=draw)
    seldom = torch.randint(20, 39, (2, 1), generator=draw) if step % 7 == 0 else torch.zeros(2, 1, dtype=torch.int64)
    return torch.cat([torch.ones(2, 1, dtype=torch.int64), often, seldom], 1)


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed = Embed(WORDS, SIZE, generator=torch.Generator().manual_seed(0)).double()
        self.out = nn.Linear(SIZE, 1).double()

    def forward(self, ids: Tensor, noise: Noise | None) -> Tensor:
        return (self.out(self.embed(ids, noise)).squeeze(2).tanh() * torch.arange(1.0, 7.0)).sum()  # type: ignore[no-any-return]


def run(config: TrainConfig, lazy: bool, peek: tuple[int, ...] = (), size: float = 1.0) -> tuple[Tensor, Tensor, Toy]:
    """(the table, its average) after STEPS, the table caught up as a whole after each step in `peek` too.
    `size`: of the loss."""
    toy = Toy()
    average = Average(toy, 0.98)
    tables = lazy_adam.tables(toy, config, average) if lazy else []
    names = {table.name for table in tables}
    optimizer = optim.optimiser(toy, config, names)
    for step in range(STEPS):
        toy.zero_grad()
        loss = size * toy(ids_of(step), Noise(0, step))
        loss.backward()
        read = [numbers for table in tables for _, numbers in table.read]
        optim.clip([*toy.parameters(), *read], 0.5)
        lr = optim.rate(step, STEPS, config)
        optim.set_rates(optimizer.param_groups, lr, step, 1, config)
        optimizer.step()
        for table in tables:
            table.step(lr, average.decay_at(step))
            if step in peek:
                table.all_catch_up()
        average.update(step, but=names)
    for table in tables:
        table.leave()
    return toy.embed.weight.detach(), average.tensors["embed.weight"], toy


@pytest.mark.parametrize("settings", [{}, {"optimizer": "adam"}, {"momentum": 0.5}, {"schedule": "constant"}])
def test_rows_that_catch_up_stand_where_adam_over_the_table_has_them(settings: dict[str, object]) -> None:
    config = TrainConfig(lr=0.05, **settings)
    whole, whole_average, _ = run(config, lazy=False)
    table, average, _ = run(config, lazy=True)
    start = Embed(WORDS, SIZE, generator=torch.Generator().manual_seed(0)).weight.detach()
    assert (whole[1:39] - start[1:39]).abs().min() > 1e-3, "every word but the last has moved"
    torch.testing.assert_close(table, whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(average, whole_average, atol=1e-5, rtol=0)
    torch.testing.assert_close(table[39], start[39].double(), atol=0, rtol=0)
    assert not table[0].any(), "padding stays zero"


@pytest.mark.parametrize("size", [1e-5, 1e-7, 1e-9, 1e-20])
def test_tiny_gradients_are_damped_as_adam_damps_them(size: float) -> None:
    """Where sqrt(v) is near Adam's epsilon, or far below it: most numbers of a rare word. Words move by up to 1 here."""
    config = TrainConfig(lr=0.05)
    whole, whole_average, _ = run(config, lazy=False, size=size)
    table, average, _ = run(config, lazy=True, size=size)
    torch.testing.assert_close(table, whole, atol=0.02, rtol=0)
    torch.testing.assert_close(average, whole_average, atol=0.02, rtol=0)


def test_looking_at_the_whole_table_changes_nothing() -> None:
    config = TrainConfig(lr=0.05)
    table, average, _ = run(config, lazy=True)
    seen, seen_average, _ = run(config, lazy=True, peek=(3, 4, 100, 199))
    torch.testing.assert_close(seen, table, atol=1e-6, rtol=0)
    torch.testing.assert_close(seen_average, average, atol=1e-6, rtol=0)


def test_a_row_that_is_not_read_is_not_touched() -> None:
    toy = Toy()
    (table,) = lazy_adam.tables(toy, TrainConfig(), None)
    for step in range(3):
        toy.zero_grad()
        toy(torch.tensor([[1, 2, 3, 4, 5, 6]]), Noise(0, step)).backward()
        assert toy.embed.weight.grad is None
        table.step(0.1, 0.0)
    assert table.last[1:7].tolist() == [3] * 6
    assert not table.last[7:].any()
    assert not table.m[7:].any()


def test_what_is_remembered_goes_on_to_the_same_bits() -> None:
    def steps(toy: Toy, table: lazy_adam.LazyAdam, average: Average, first: int, last: int) -> None:
        for step in range(first, last):
            toy.zero_grad()
            toy(ids_of(step), Noise(0, step)).backward()
            table.step(0.05, average.decay_at(step))

    ends = []
    for stop in (None, 31):
        toy = Toy()
        average = Average(toy, 0.98)
        (table,) = lazy_adam.tables(toy, TrainConfig(), average)
        steps(toy, table, average, 0, stop or 60)
        if stop:
            again = Toy()
            again.load_state_dict(toy.state_dict())
            kept = Average(again, 0.98)
            kept.restore(average.tensors)
            (other,) = lazy_adam.tables(again, TrainConfig(), kept)
            other.remember({name: tensor.clone() for name, tensor in table.memory().items()})
            steps(again, other, kept, stop, 60)
            toy, table, average = again, other, kept
        table.leave()
        ends.append((toy.embed.weight.detach(), average.tensors["embed.weight"]))
    for one, other_end in zip(*ends, strict=True):
        assert torch.equal(one, other_end)


def test_two_readings_before_a_step_add_up() -> None:
    """The same words again, as adversarial training reads them, and others beside them."""
    grown = []
    for at_once in (True, False):
        toy = Toy()
        (table,) = lazy_adam.tables(toy, TrainConfig(), None)
        first, second = torch.tensor([[1, 2, 3, 4, 5, 6]]), torch.tensor([[5, 6, 7, 8, 9, 0]])
        if at_once:
            (2 * toy(first, Noise(0, 0)) + toy(second, Noise(0, 0))).backward()
        else:
            for ids in (first, second, first):
                toy(ids, Noise(0, 0)).backward()
        assert len(table.read) == 2
        table.step(0.1, 0.0)
        grown.append(table.m.clone())
    torch.testing.assert_close(*grown, atol=1e-12, rtol=0)
    assert grown[0][1:10].abs().min() > 0
    assert not grown[0][0].any(), "padding has no gradient"


@pytest.mark.parametrize("settings", [{"optimizer": "sgd"}, {"optimizer": "rmsprop"}])
def test_other_optimisers_train_the_table_as_a_whole(settings: dict[str, str]) -> None:
    toy = Toy()
    assert lazy_adam.tables(toy, TrainConfig(**settings), None) == []
    toy(ids_of(0), Noise(0, 0)).backward()
    assert toy.embed.weight.grad is not None


def test_a_call_in_training_reads_rows_that_have_caught_up() -> None:
    """With noise or without: a translator's guesses are made without."""
    embed = Embed(6, 3)
    table = lazy_adam.LazyAdam("w", embed, 0.9, None)
    for step, word in enumerate([3, 4, 4, 4, 4]):
        embed(torch.tensor([[word]]), Noise(0, step)).sum().backward()
        table.step(0.01, 0.0)
    behind, read = embed.weight.detach()[3].clone(), embed(torch.tensor([[3]])).detach()[0, 0]
    table.leave()
    assert not torch.equal(behind, embed.weight[3])
    assert torch.equal(read, embed.weight[3])


def test_a_table_that_was_frozen_begins_as_adam_begins() -> None:
    embed = Embed(6, 3)
    table, other = lazy_adam.LazyAdam("w", embed, 0.9, None), embed.weight.detach().clone().requires_grad_()
    adam, ids = torch.optim.Adam([other], lr=0.01), torch.tensor([[3, 4, 5]])
    for step in range(60):
        frozen = step < 40
        embed.weight.requires_grad_(not frozen)
        read = embed(ids, Noise(0, step))
        adam.zero_grad()
        if not frozen:
            read.sum().backward()
            other[ids].sum().backward()
        table.step(0.0 if frozen else 0.01, 0.0)
        adam.step()
    table.leave()
    torch.testing.assert_close(embed.weight.detach(), other.detach())


def test_a_frozen_table_is_left_alone_and_a_left_one_is_ordinary() -> None:
    toy = Toy()
    toy.embed.weight.requires_grad_(False)
    assert lazy_adam.tables(toy, TrainConfig(), None) == []
    toy.embed.weight.requires_grad_(True)
    (table,) = lazy_adam.tables(toy, TrainConfig(), None)
    table.leave()
    toy(ids_of(0), Noise(0, 0)).backward()
    assert toy.embed.weight.grad is not None
