//! Arrays whose elements lie in lines of the processor's cache as their layouts mean them to.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, btf_maps::Array};

/// An array whose first element begins a page (`BPF_F_MMAPABLE`, kernel 5.5): in any other it begins 8
/// bytes before the end of a line, and a set that is as long as a line takes two. Nobody maps it.
pub(crate) type Lines<T, const N: usize> = Array<T, N, { BPF_F_MMAPABLE as usize }>;
