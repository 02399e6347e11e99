"""The intents the delegator is trained for: their names, order and one-line descriptions.

The order is the order of the classifier's outputs and of every confusion matrix. Which specialist serves an
intent is the server's business. `general` means: the base answers.
"""

GENERAL = "general"

DESCRIPTIONS: dict[str, str] = {
    "math": "arithmetic, word problems, algebra, geometry, proofs: a question whose answer is worked out",
    "code": "writing, completing, explaining, testing or mending programs, in any programming language",
    "commonsense": "everyday physical and social reasoning, elementary science, mostly with options",
    "knowledge": "factual questions with a short answer: trivia, people, places, dates, works",
    "finance": "financial reports and tables, markets, investing, accounting, financial news",
    "spanish": "anything written in Spanish, whatever its subject",
    GENERAL: "open-ended chat, writing, advice, summaries, small talk, and whatever no other intent covers",
}

INTENTS: tuple[str, ...] = tuple(DESCRIPTIONS)
