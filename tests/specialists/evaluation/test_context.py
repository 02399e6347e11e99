from specialists.evaluation.context import estimate_tokens, fit_context, fit_text, render_table

TABLE = "Year | 2019 | 2018\nSales | 1,200 | 1,100"
PARAGRAPHS = ["Nothing of the kind is said here. " * 12, "Sales grew because of demand.", "Notes follow."]


def test_tokens_are_counted_by_digits_signs_and_letters():
    assert estimate_tokens("1,234.5") == 7
    assert estimate_tokens("word") == 1
    assert estimate_tokens("words together") == 4
    assert estimate_tokens("") == 0


def test_a_table_is_written_compactly():
    rows = [["", "2019 ", " 2018"], ["", "", ""], ["Total  sales", "$ 1", "2"]]
    assert render_table(rows) == "| 2019 | 2018\nTotal sales | $ 1 | 2"


def test_what_fits_is_given_whole():
    assert fit_text("a few words", 100) == "a few words"
    assert fit_context(TABLE, PARAGRAPHS, "sales", 1000) == "\n".join([TABLE, "", *PARAGRAPHS])


def test_a_long_text_is_cut_at_a_word():
    text = "word " * 100
    cut = fit_text(text, 10)
    assert cut == "word " * 9 + "word"
    assert estimate_tokens(cut) <= 10


def test_the_table_goes_first_then_what_the_question_speaks_of():
    budget = estimate_tokens(TABLE) + 20
    assert fit_context(TABLE, PARAGRAPHS, "Why did sales grow?", budget).startswith(f"{TABLE}\n\n")
    assert "Sales grew because of demand." in fit_context(TABLE, PARAGRAPHS, "Why did sales grow?", budget)
    assert fit_context(TABLE, PARAGRAPHS, "sales", estimate_tokens(TABLE)) == "Year | 2019 | 2018"


def test_no_context_is_longer_than_its_budget():
    for budget in range(1, 120, 7):
        assert estimate_tokens(fit_context(TABLE, PARAGRAPHS, "sales", budget)) <= budget + 2
