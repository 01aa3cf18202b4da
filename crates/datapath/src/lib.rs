//! Receive, extract, cache, execute: batch after batch.
