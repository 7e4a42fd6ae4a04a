"""Lets one thread compute: requests that wait meanwhile are answered together, by one pass of the network."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sasrec.evaluation.ranking import USERS_PER_BATCH
from sasrec.serving.recommender import Answer, Recommender
from sasrec.serving.web.messages import Question

Result = TypeVar("Result")


class Batches:
    """Answers questions in the order in which they come."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._waiting = deque[tuple[Question, Future[Answer]]]()

    async def run(self, compute: Callable[[], Result]) -> Result:
        """Return what `compute` returns in the thread that computes."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, compute)

    async def recommend(self, question: Question) -> Answer:
        """Return the answer to a question."""
        answer = Future[Answer]()
        self._waiting.append((question, answer))
        self._thread.submit(self._answer_first)
        return await asyncio.wrap_future(answer)

    def _answer_first(self) -> None:
        """Answer the first question that waits, with those after it that differ in their histories alone."""
        batch = list[tuple[Question, Future[Answer]]]()
        while self._waiting and len(batch) < USERS_PER_BATCH:
            question, answer = self._waiting[0]
            if batch and _options(question) != _options(batch[0][0]):
                break
            self._waiting.popleft()
            if answer.set_running_or_notify_cancel():
                batch.append((question, answer))
        if not batch:  # an earlier call has answered it
            return
        try:
            found = self._recommend([question for question, _ in batch])
        except Exception as error:
            for _, answer in batch:
                answer.set_exception(error)
        else:
            for (_, answer), each in zip(batch, found, strict=True):
                answer.set_result(each)

    def _recommend(self, questions: list[Question]) -> list[Answer]:
        first = questions[0]
        return self._recommender.recommend(
            [question.history for question in questions],
            min(first.k, self._recommender.num_books),
            exclude_seen=first.exclude_seen,
            exclude=first.exclude,
            min_ratings=first.min_ratings,
        )


def _options(question: Question) -> tuple[object, ...]:
    return question.k, question.exclude_seen, question.exclude, question.min_ratings
