"""Random calls of every function of the wheel, valid and invalid, from hostile objects.

`python -m fuzz --seconds 60` (with `packages/kernels/tests` on the path) prints a seed; the number
of a call and the seed make the call again. A call that has to be taken is compared with float64; a
call that has to be refused must raise TypeError or ValueError. Under AddressSanitizer a read or
write outside an array ends the process, and the parent prints the call.
"""
