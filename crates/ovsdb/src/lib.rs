//! RFC 7047: JSON-RPC, schema, engine, durable log, server and client sessions.
