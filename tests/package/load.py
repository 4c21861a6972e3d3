"""Asks a node on port 8080 for a page, all the time, on kept and on new connections, until a file is there; prints how many requests
failed, how many were served, and why the first failed. Argument: the file."""

import http.client, os, sys, threading
served, failed = [0], []
def ask(keeps):
    connection = None
    while not os.path.exists(sys.argv[1]):
        try:
            connection = connection or http.client.HTTPConnection("127.0.0.1", 8080, timeout=20)
            connection.request("GET", "/upgrades.md")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            served[0] += 1
            if not keeps or answer.will_close:
                connection.close()
                connection = None
        except Exception as error:
            failed.append(repr(error))
            connection = None
threads = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(failed), served[0], failed[:3])
