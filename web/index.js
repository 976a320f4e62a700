export { Classifier, WorkerClassifier } from "./classifier.js";
export { Decoder } from "./decoder.js";
export { Detector, WorkerDetector } from "./detector.js";
export { Predictor, supportedBuild } from "./predictor.js";
export { pixelsOf, preprocess } from "./preprocess.js";
export { Stylizer, WorkerStylizer } from "./stylizer.js";
export { TextModel, WorkerTextModel } from "./text.js";
export { TextWriter, WorkerTextWriter } from "./text_writer.js";
export { Writer } from "./writer.js";
