def launch(
    program: bytes,
    arguments: list[bytes],
    environment: list[bytes],
    more: bytes,
    descriptor: int,
    log: int,
    listens: bool,
    limits: tuple[tuple[int, int, int], ...],
    /,
) -> int: ...
