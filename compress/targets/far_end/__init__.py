"""The far end of a connection to a device: keeps files in a folder of its own, runs programs there, leaves it clean.

`compress.targets.connection` sends it over the connection, with what it needs of `compress.targets.measuring` to tell
what the machine is; the device's own Python runs it (>= 3.9, standard library alone). Requests come on standard input,
one JSON object a line; answers go the same way on standard output. Files follow as chunks, each after its length in
four bytes; none ends them, `ABORTED` gives up.

When the connection closes without `bye`, what runs is ended, and the files are kept for `grace_seconds`, in which a
new connection of the same run may take them over; then they are removed. What a killed run has left is removed by the
next one.
"""
