//! OpenFlow 1.0 to 1.5 with Nicira extensions: codec and the text of ovs-ofctl.

#![no_std]
