//! The words of Bakelite: what host and device have to agree on. No I/O, no clock, no platform.
