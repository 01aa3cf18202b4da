//! How bytes become headers: buffers with offload metadata, checksums, segmentation.

#![no_std]

