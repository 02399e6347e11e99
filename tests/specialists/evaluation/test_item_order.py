from specialists.evaluation.choice import ChoiceItem
from specialists.evaluation.item_order import draw_items, shuffle_items

ITEMS = [ChoiceItem(str(number), "Q", ("a", "b"), 0) for number in range(50)]


def test_a_larger_limit_adds_items_and_drops_none():
    small, large = (shuffle_items(ITEMS, 20, limit) for limit in (5, 9))
    assert large[:5] == small
    assert shuffle_items(ITEMS, 21, 5) != small


def test_a_sample_keeps_the_order_of_the_data():
    drawn = draw_items(ITEMS, 20, 12)
    assert {item.id for item in drawn} == {item.id for item in shuffle_items(ITEMS, 20, 12)}
    assert [int(item.id) for item in drawn] == sorted(int(item.id) for item in drawn)
    assert draw_items(ITEMS, 20, None) == draw_items(ITEMS, 20, 99) == ITEMS
