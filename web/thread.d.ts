/** A thread of a predictor: an entry for bundlers, with nothing to import. */
export {};
