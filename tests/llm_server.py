"""A chat server that behaves as told, for test_llm_teacher.sh: answers well, slowly, wrongly (at a
step, or the first time), with 429 or 500 first, with cut JSON first, or never. Prints its port; each
request adds a line to LOG and its conversation to LOG.talk.

    llm_server.py BEHAVIOUR LOG
"""
import json
import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

behaviour, log_path = sys.argv[1:]
met, lock = set(), threading.Lock()
EDGE = re.compile(r'((?:the user|Person A) gave ".*?" (?:\[\?\]|[\d.]+) stars)')


def answer_of(text):
    """The answer that guidance names; without guidance a guess."""
    found = re.search(r"The correct answer is (\d)", text)
    return found.group(1) if found else "3"


def edges(text):
    """The edges of chain 1 that are in sight, as the prompt writes them."""
    line = re.search(r"^Chain 1: (.*)$", text, re.M)
    return [edge for edge in EDGE.findall(line.group(1)) if "[?]" not in edge] if line else []


def spoil(edge):
    return re.sub(r"[\d.]+ stars$", "7 stars", edge)


def thought(text, wrong):
    """A true thought about the masked edge, written from the prompt alone."""
    seen = edges(text)
    if not seen:
        return "This would be 7 stars" if wrong else "Nothing is rated yet"
    return f"{spoil(seen[-1]) if wrong else seen[-1]}, so the next is probably alike"


def whole(text, wrong):
    """All four steps of a single request: another implementation of the format."""
    steps = edges(text) or ["there is no chain"] * 3
    if wrong:
        steps = [spoil(step) for step in steps]
    lines = [f"Step {k}: {step}." for k, step in enumerate(steps, 1)]
    return "\n" + "\n".join(lines) + f"\nStep 4: I expect {answer_of(text)}.\n"


def content(text, led, step, first):
    wrong = (behaviour == f"wrong{step}" or (behaviour == "wrong" and not led) or
             (behaviour == "wavers" and first))
    reasoning = thought(text, wrong) if led else whole(text, wrong)
    if behaviour == "tells" and led:
        reasoning += f", I expect {answer_of(text)}"
    body = f"<think>{reasoning}</think>"
    return body if behaviour == "formless" else f"{body}<answer>{answer_of(text)}</answer>"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def note(self, request):
        """Whether this step is asked for the first time."""
        key = self.headers["X-Request-ID"]
        with lock:
            first = key not in met
            met.add(key)
            with open(log_path, "a") as log:
                log.write(f"{time.time():.2f} {key} {first}\n")
            with open(log_path + ".talk", "a") as talk:
                talk.write(f"==== {key} ====\n")
                for message in request["messages"]:
                    talk.write(f"-- {message['role']}\n{message['content']}\n")
            if behaviour == "dies" and len(met) > 10:
                self.connection.close()
                os._exit(0)
        return first

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        messages = request["messages"]
        step = int(self.headers["X-Request-ID"].split("-")[1])
        first = self.note(request)
        if self.headers.get("Authorization") != "Bearer test-key":
            return self.reply(401, b"{}")
        if behaviour == "silent":
            return time.sleep(60)
        if behaviour == "slow":
            time.sleep(0.5)
        if behaviour == "down" or (behaviour == "error" and first):
            return self.reply(500, b"oops")
        if behaviour == "busy" and first:
            return self.reply(429, b"{}", [("Retry-After", "1")])
        led = "one step at a time" in messages[0]["content"]
        said = content(messages[-1]["content"], led, step, first)
        body = json.dumps({
            "choices": [{"message": {"role": "assistant", "content": said}}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
        }).encode()
        self.reply(200, body[:len(body) // 2] if behaviour == "cut" and first else body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
