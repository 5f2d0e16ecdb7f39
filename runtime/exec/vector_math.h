// MKL's vector functions (exp, log, tanh, …), by which LibTorch's kernels go over elements on the host.
#pragma once

namespace autospc::exec {

// Calls one of them, once a process, on the calling thread alone. If two threads of a kernel make a process's first calls at the same
// time, one of them has now and then (in one run of fifteen) MKL's least accurate variant for it: an exponential 1.5e-4 beside the
// exact one. Seen in MKL of LibTorch 2.11.
void WarmUpVectorMath();

}  // namespace autospc::exec
