"""The live program: cameras, faces, threads and sockets around the engine."""
