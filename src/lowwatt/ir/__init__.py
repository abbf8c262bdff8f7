"""The one description of a network after training: graph, operators, interpreter, and the formats it is read from."""
