//! The part of the XDP program that decides.
#![no_std]
