"""A chat server that behaves as told, for test_llm_teacher.sh: answers well, slowly, wrongly, with 429 or
500 first, with cut JSON first, or never. Prints its port; each request adds a line to the log.

    llm_server.py BEHAVIOUR LOG
"""
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

behaviour, log_path = sys.argv[1:]
met, lock = set(), threading.Lock()


def trace(text):
    """A true trace, written from the prompt alone: another implementation of the format."""
    answer = re.search(r"The correct answer is (\d)", text).group(1)
    chain = re.search(r"^Chain 1: (the user gave .*? stars); (Person A gave .*? stars); (Person A gave .*? stars)",
                      text, re.M)
    steps = chain.groups() if chain else ["there is no chain"] * 3
    if behaviour == "wrong":
        steps = [re.sub(r"[\d.]+ stars$", "7 stars", step) for step in steps]
    lines = [f"Step {k}: {step}." for k, step in enumerate(steps, 1)]
    return "<think>\n" + "\n".join(lines) + f"\nStep 4: I expect {answer}.\n</think><answer>{answer}</answer>"


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

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = request["messages"][-1]["content"]
        with lock:
            first = text not in met
            met.add(text)
            with open(log_path, "a") as log:
                log.write(f"{time.time():.2f} {first}\n")
            if behaviour == "dies" and len(met) > 3:
                self.connection.close()
                sys.stdout.close()
                import os
                os._exit(0)
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
        body = json.dumps({
            "choices": [{"message": {"role": "assistant", "content": trace(text)}}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
        }).encode()
        self.reply(200, body[:len(body) // 2] if behaviour == "cut" and first else body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
