"""vLLM as an engine: a server process beside the trainer, and the engine that speaks with it.

    engine.py   the trainer's end: prompts and weights go out, completions come back
    client.py   one question, one answer, one deadline; what can go wrong as one line
    process.py  the server as a child of the trainer
    server.py   the server: `groupwise` over HTTP around one model, all of it on this machine
    model.py    the model inside the server: vLLM itself
    worker.py   what runs inside vLLM's workers

vLLM always runs in a process of its own, the trainer's child or one that the user started. So the trainer needs no vLLM
in its own environment where the user starts the server, every wait has a deadline, and when vLLM dies the run does not.
"""
