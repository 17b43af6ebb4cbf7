"""openpi's published client, run by the Python that has it: asks a server, and says what it was answered, as JSON.

Usage: real_openpi.py PORT TOKEN OBSERVATIONS.npz
"""

import json
import sys

import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy


def main(port: str, token: str, file: str) -> None:
    policy = WebsocketClientPolicy("127.0.0.1", int(port), api_key=token)
    told = policy.get_server_metadata()
    kept = np.load(file)
    columns = zip(kept["texts"], kept["pictures"], kept["states"], strict=True)
    observations = [
        {"prompt": str(text), told["images"][0]: picture, "observation.state": state, "episode_start": number == 0}
        for number, (text, picture, state) in enumerate(columns)
    ]
    chunks = [policy.infer(each)["actions"].tolist() for each in observations]
    try:
        policy.infer({"nothing": 1})
    except RuntimeError as error:
        refused = str(error)
    broker = ActionChunkBroker(policy, told["action_horizon"])
    policy.infer(observations[0])  # the first of a new episode
    steps = [broker.infer(observations[1])["actions"].tolist() for _ in range(told["action_horizon"])]
    print(json.dumps({"told": told, "chunks": chunks, "refused": refused, "steps": steps}))


if __name__ == "__main__":
    main(*sys.argv[1:])
