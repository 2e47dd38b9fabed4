"""The scalars of a solve on a device: where each lies in ``state`` (SLOTS,) float64, what OUTCOME may say.

RTOL and ATOL are asked for, ATOL in b's own scale; TOLERANCE is what follows from them for b / ||b||. LEAST
and RESIDUAL are the true residuals of the best x so far and of the last one.
"""

RZ_BEFORE, RZ, ACTIVE, ACTING, ITERATIONS, OUTCOME, TOLERANCE, LIMIT, RESIDUAL, SCALE, DUE, GOING = range(12)
RTOL, ATOL, LEAST = range(12, 15)
SLOTS = 16
# values of state[OUTCOME]
NONE, CONVERGED, ITERATION_LIMIT, INDEFINITE_OPERATOR, INDEFINITE_PRECONDITIONER, NOT_FINITE = range(6)
