"""The drills, by what is broken. A new one is a function with `@drill` in any module here.

@drill("name-of-it", number=99, breaks="what is broken", holds="what must hold")
def name_of_it(run: Run) -> None:
    with run.stack(UNKNOWN_REVIEW_AFTER=2) as stack:       # settings of web and workers
        stack.web()
        worker = stack.worker("worker")
        stack.post_and_wait(run.scale(2000, 100))          # all / --quick
        worker.kill()
        stack.wait_until_quiet()
        run.judge(stack)                                   # lost, doubled, phantom, ...: none
        run.expect("it came back", worker.starts == 2)
"""
