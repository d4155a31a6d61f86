//! One poll loop that owns a container's stdio, logs and exit.
