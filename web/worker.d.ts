/** The worker in which `Classifier.inWorker` and its like run a model: an entry for bundlers, with nothing to import. */
export {};
