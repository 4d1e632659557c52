import asyncio
import socket
import subprocess
import sys
import threading
import time

import pytest

from allready.testing import DeadlockError, VirtualClockLoop, run_virtual


def now() -> float:
    return asyncio.get_running_loop().time()


def test_sleep_takes_virtual_time_only() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400)
        return now()

    began = time.monotonic()
    assert run_virtual(main()) == 86_400
    assert run_virtual(main(), start=100) == 86_500
    assert time.monotonic() - began < 10


def test_sleepers_wake_in_the_order_of_their_times_and_exactly_then() -> None:
    async def main() -> list[tuple[float, float]]:
        woken = []

        async def sleeper(delay: float) -> None:
            await asyncio.sleep(delay)
            woken.append((delay, now()))

        await asyncio.gather(*(sleeper(delay) for delay in (3, 0.1, 2, 0.7, 0.3)))
        return woken

    assert run_virtual(main()) == [(delay, delay) for delay in (0.1, 0.3, 0.7, 2, 3)]


def test_timers_at_the_same_time_are_first_come_first() -> None:
    async def main() -> list[int]:
        woken: list[int] = []
        loop = asyncio.get_running_loop()
        for number in range(50):
            loop.call_at(5, woken.append, number)
        loop.call_later(1, loop.call_later, 4, woken.append, 50)
        await asyncio.sleep(6)
        return woken

    assert run_virtual(main()) == list(range(51))


def test_call_later_and_cancel() -> None:
    async def main() -> list[str]:
        called: list[str] = []
        loop = asyncio.get_running_loop()
        loop.call_later(1, called.append, "one")
        handle = loop.call_later(2, called.append, "never")
        assert handle.when() == 2
        handle.cancel()
        loop.call_later(3, called.append, "three")
        await asyncio.sleep(10)
        return called

    assert run_virtual(main()) == ["one", "three"]


def test_timeouts() -> None:
    async def main() -> list[float]:
        times = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        times.append(now())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(3_600), 30)
        times.append(now())
        assert await asyncio.wait_for(asyncio.sleep(5, "in time"), 30) == "in time"
        times.append(now())
        return times

    assert run_virtual(main()) == [60, 90, 95]


def test_the_clock_stands_still_while_there_is_something_to_do() -> None:
    async def main() -> float:
        asyncio.get_running_loop().call_later(1, lambda: None)
        for _ in range(1_000):
            await asyncio.sleep(0)
        return now()

    assert run_virtual(main()) == 0


@pytest.mark.parametrize("start", [0.0, 1.8e9, 1e15])
def test_late_times_do_not_stop_the_clock(start: float) -> None:
    async def main() -> float:
        for _ in range(10):
            await asyncio.sleep(1)
        await asyncio.sleep(1e9)
        await asyncio.sleep(1)
        return now()

    assert run_virtual(main(), start=start) == start + 1_000_000_011


def test_a_thread_takes_no_virtual_time() -> None:
    async def main() -> tuple[str, float]:
        started, release = threading.Event(), threading.Event()

        def work() -> str:
            started.set()
            release.wait(20)
            return "done"

        other_timer = asyncio.create_task(asyncio.sleep(1_000))
        in_thread = asyncio.create_task(asyncio.to_thread(work))
        while not started.is_set():
            await asyncio.sleep(0)
        threading.Timer(0.05, release.set).start()
        result = await in_thread
        at = now()
        await other_timer
        return result, at

    assert run_virtual(main()) == ("done", 0)


def test_callbacks_of_announced_threads_arrive() -> None:
    async def main() -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        future = loop.create_future()
        go = threading.Event()

        def work() -> None:
            go.wait(20)
            loop.call_soon_threadsafe(future.set_result, "from outside")

        thread = threading.Thread(target=work)
        thread.start()
        asyncio.get_running_loop().call_later(5, lambda: None)
        with loop.outside_work():
            threading.Timer(0.05, go.set).start()
            result = await future
        thread.join()
        return result, now()

    assert run_virtual(main()) == ("from outside", 0)


def test_a_subprocess_takes_no_virtual_time() -> None:
    async def main() -> tuple[bytes, int, float]:
        loop = asyncio.get_running_loop()
        loop.call_later(5, lambda: None)
        piped = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('hello')", stdout=subprocess.PIPE
        )
        output, _ = await piped.communicate()
        silent = await asyncio.create_subprocess_shell("exit 3", stdin=subprocess.DEVNULL)
        return output, await silent.wait(), now()

    assert run_virtual(main()) == (b"hello\n", 3, 0)


def test_sockets_take_no_virtual_time() -> None:
    async def main() -> tuple[bytes, float]:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        with here, there:
            here.setblocking(False)
            reading = asyncio.create_task(loop.sock_recv(here, 100))
            loop.call_later(5, lambda: None)
            await asyncio.sleep(0)
            threading.Timer(0.05, there.send, [b"ping"]).start()
            received = await reading
            at = now()
            await asyncio.sleep(1)
        return received, at

    assert run_virtual(main()) == (b"ping", 0)


def test_waiting_for_what_can_not_happen_is_an_error_that_names_the_waiters() -> None:
    async def waits_for_nobody() -> None:
        await asyncio.sleep(2)
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(waits_for_nobody(), name="lonely")

    with pytest.raises(DeadlockError, match="deadlock at virtual time 2") as caught:
        run_virtual(main())
    assert f"lonely: in {waits_for_nobody.__qualname__}, {__file__}:" in str(caught.value)


def test_sleeping_forever_is_waiting_for_nobody() -> None:
    with pytest.raises(DeadlockError, match="no timer left"):
        run_virtual(asyncio.sleep(float("inf")))


def test_outside_work_that_stays_silent_is_an_error() -> None:
    release = threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().call_later(1, release.set)  # can't happen: the thread holds the clock
        await asyncio.to_thread(release.wait, 60)

    try:
        with pytest.raises(DeadlockError, match=r"silent for 0\.2 real seconds.*stands still at 0"):
            run_virtual(main(), patience=0.2)
    finally:
        release.set()


def test_errors_and_cancellation_pass() -> None:
    async def fails() -> None:
        await asyncio.sleep(1)
        raise KeyError("mine")

    async def canceled() -> str:
        task = asyncio.create_task(asyncio.sleep(50))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return f"at {now():g}"

    with pytest.raises(KeyError, match="mine"):
        run_virtual(fails())
    assert run_virtual(canceled()) == "at 1"


def test_what_is_left_running_is_canceled_at_the_end() -> None:
    ended = []

    async def straggler() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)
            ended.append(now())

    async def main() -> None:
        task = asyncio.create_task(straggler())
        await asyncio.sleep(5)
        assert not task.done()

    run_virtual(main())
    assert ended == [6]


def test_the_same_program_takes_the_same_course() -> None:
    async def main() -> list[tuple[float, int]]:
        course: list[tuple[float, int]] = []
        queue: asyncio.Queue[int] = asyncio.Queue(3)
        gate = asyncio.Semaphore(4)

        async def produce(number: int) -> None:
            async with gate:
                await asyncio.sleep(number % 5 / 10)
                await queue.put(number)

        async def consume() -> None:
            for _ in range(100):
                course.append((now(), await queue.get()))
                await asyncio.sleep(0.01)

        await asyncio.gather(consume(), *map(produce, range(100)))
        return course

    first = run_virtual(main())
    assert len(first) == 100
    assert first[-1][0] > 1
    assert all(run_virtual(main()) == first for _ in range(5))
