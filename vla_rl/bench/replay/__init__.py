"""`vla-rl bench replay`: replay buffers raced on one recorded stream, a process each; `course` needs numpy only."""
