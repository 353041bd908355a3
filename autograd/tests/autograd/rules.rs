//! Every gradient rule against difference quotients, on fixed points.
