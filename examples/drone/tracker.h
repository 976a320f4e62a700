// Gives boxes of single frames ids that last: a tracker in the manner of ByteTrack (Zhang et al., ECCV 2022).
#pragma once

#include <cstdint>
#include <vector>

#include "box.h"

struct TrackerOptions {
  double high = 0.5;      // a detection with this score may begin a track
  double low = 0.1;       // one with less than `high` and at least this can only go on with a track
  double match = 0.2;     // least overlap of a sure detection with a track's prediction
  double match_low = 0.5; // least overlap of an unsure one
  int patience = 30;      // frames for which a track is kept without a detection
};

// An object in the frame that was given last.
struct Track {
  int64_t id = 0;  // from 1 on, never used again
  Box box;         // smoothed
  int label = 0;
  double score = 0;
};

// One coordinate and its speed per frame, with their covariance: a Kalman filter for constant velocity.
class Axis {
 public:
  // Where it is, and how sure that is: standard deviations of position and speed.
  Axis(double position, double position_deviation, double speed_deviation);

  // `steps` frames later; the deviations are what a frame adds.
  void predict(double steps, double position_deviation, double speed_deviation);
  // A measurement with its standard deviation.
  void correct(double position, double deviation);
  void stop() { speed_ = 0; }

  double position() const { return position_; }
  double speed() const { return speed_; }

 private:
  double position_, speed_ = 0;
  double pp_, ps_ = 0, ss_;  // variance of the position, covariance, variance of the speed
};

// A row for each row of `gains` (all of one length): the column that it is given, or -1. No column is given twice, only
// pairs of gain > 0 count, and the gains' sum is the largest possible (Kuhn and Munkres).
std::vector<int> assign(const std::vector<std::vector<double>>& gains);

class Tracker {
 public:
  explicit Tracker(const TrackerOptions& options = {}) : options_(options) {}

  // Takes the detections of the next frame, `steps` frames after the last (1, or more where a camera's frames were
  // skipped). Returns the tracks that are seen in it, by id.
  std::vector<Track> update(const std::vector<Detection>& detections, int steps = 1);

  // How many ids were given so far.
  int64_t count() const { return last_id_; }

 private:
  struct State {
    State(const Detection& detection);
    Box box() const;
    void predict(int steps);
    void correct(const Detection& detection);

    Axis x, y, width, height;  // the centre and the size
    int label;
    double score;
    int64_t id = 0;   // 0: seen once, perhaps by mistake
    int unseen = 0;   // frames since its last detection
  };

  // Corrects the tracks `rows` with those of the detections `columns` that fit, and takes both from the lists.
  void match(std::vector<State*>& rows, std::vector<const Detection*>& columns, double least);

  TrackerOptions options_;
  std::vector<State> states_;
  int64_t last_id_ = 0;
  bool started_ = false;
};
