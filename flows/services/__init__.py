"""`slateflow up`: servers and a worker as processes of this machine."""
