export { Classifier, WorkerClassifier } from "./classifier.js";
export { Predictor, supportedBuild } from "./predictor.js";
export { pixelsOf, preprocess } from "./preprocess.js";
