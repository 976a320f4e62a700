"""Groups of nodes become kernels: where values lie, and what each kernel computes, equal ones once."""
