//! Client of the Docker Engine API: connections, negotiation, hijacked streams, contexts.
