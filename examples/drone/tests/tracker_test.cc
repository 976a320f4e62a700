// What the tracker promises.

#include "../tracker.h"

#include <cmath>
#include <map>
#include <random>
#include <set>

#include "test.h"

namespace {

// A square of 40 pixels with its centre at (x, y).
Detection square(double x, double y, double score = 0.9, int label = 0) {
  return {{x - 20, y - 20, x + 20, y + 20}, label, score};
}

std::vector<int64_t> ids(const std::vector<Track>& tracks) {
  std::vector<int64_t> found;
  for (const Track& t : tracks) found.push_back(t.id);
  return found;
}

using Ids = std::vector<int64_t>;

// The id of the track whose centre is nearest to (x, y).
int64_t id_at(const std::vector<Track>& tracks, double x, double y) {
  const Track* best = nullptr;
  double least = 0;
  for (const Track& t : tracks) {
    const double d = std::hypot((t.box.left + t.box.right) / 2 - x, (t.box.top + t.box.bottom) / 2 - y);
    if (best == nullptr || d < least) best = &t, least = d;
  }
  return best == nullptr ? 0 : best->id;
}

}  // namespace

TEST(an_object_keeps_its_id_while_it_moves) {
  Tracker tracker;
  for (int t = 0; t < 200; ++t) {
    const std::vector<Track> tracks = tracker.update({square(100 + 5 * t, 100 + 3 * std::sin(t / 9.0))});
    CHECK(ids(tracks) == Ids{1});
  }
}

TEST(objects_that_cross_keep_their_ids) {
  Tracker tracker;
  std::vector<Track> tracks;
  for (int t = 0; t < 60; ++t) tracks = tracker.update({square(100 + 6 * t, 200), square(454 - 6 * t, 215)});
  CHECK(id_at(tracks, 454, 200) == 1);
  CHECK(id_at(tracks, 100, 215) == 2);
  CHECK(tracker.count() == 2);
}

TEST(objects_keep_their_ids_where_one_hides_the_other) {
  Tracker tracker;
  std::vector<Track> tracks;
  for (int t = 0; t < 60; ++t) {
    const double a = 100 + 6 * t, b = 454 - 6 * t;
    std::vector<Detection> found = {square(a, 200)};
    if (std::fabs(a - b) > 20) found.push_back(square(b, 205));  // else suppressed as another view of the first
    tracks = tracker.update(found);
  }
  CHECK(id_at(tracks, 454, 200) == 1);
  CHECK(id_at(tracks, 100, 205) == 2);
  CHECK(tracker.count() == 2);
}

TEST(the_order_of_detections_does_not_matter) {
  Tracker tracker;
  std::vector<Track> tracks;
  for (int t = 0; t < 40; ++t) {
    std::vector<Detection> found = {square(100 + 3 * t, 100), square(100 + 3 * t, 160), square(100 + 3 * t, 220)};
    if (t % 2 != 0) std::swap(found[0], found[2]);
    tracks = tracker.update(found);
    CHECK(ids(tracks) == (Ids{1, 2, 3}));
  }
  CHECK(id_at(tracks, 217, 100) == 1 && id_at(tracks, 217, 220) == 3);
}

TEST(an_object_that_is_missed_for_some_frames_keeps_its_id) {
  Tracker tracker;
  for (int t = 0; t < 20; ++t) tracker.update({square(100 + 6 * t, 100)});
  for (int t = 20; t < 35; ++t) CHECK(tracker.update({}).empty());
  CHECK(ids(tracker.update({square(100 + 6 * 35, 100)})) == Ids{1});
}

TEST(an_object_that_is_away_for_longer_than_patience_is_a_new_one) {
  TrackerOptions options;
  options.patience = 10;
  Tracker tracker(options);
  for (int t = 0; t < 5; ++t) tracker.update({square(100, 100)});
  for (int t = 0; t < 11; ++t) tracker.update({});
  tracker.update({square(100, 100)});
  CHECK(ids(tracker.update({square(100, 100)})) == Ids{2});
}

TEST(a_low_score_goes_on_with_a_track) {
  Tracker tracker;
  for (int t = 0; t < 60; ++t) {
    const double score = t >= 10 && t < 50 ? 0.2 : 0.9;
    CHECK(ids(tracker.update({square(100 + 6 * t, 100, score)})) == Ids{1});
  }
}

TEST(a_low_score_begins_no_track) {
  Tracker tracker;
  for (int t = 0; t < 20; ++t) CHECK(tracker.update({square(100, 100, 0.4)}).empty());
  CHECK(tracker.count() == 0);
}

TEST(a_low_score_does_not_bring_a_lost_track_back) {
  Tracker tracker;
  for (int t = 0; t < 5; ++t) tracker.update({square(100, 100)});
  tracker.update({});
  CHECK(tracker.update({square(100, 100, 0.2)}).empty());
  CHECK(ids(tracker.update({square(100, 100)})) == Ids{1});
}

TEST(a_score_under_the_low_threshold_is_nothing) {
  Tracker tracker;
  for (int t = 0; t < 5; ++t) tracker.update({square(100, 100)});
  CHECK(tracker.update({square(100, 100, 0.05)}).empty());
}

TEST(a_new_object_gets_a_new_id_when_it_is_seen_twice) {
  Tracker tracker;
  for (int t = 0; t < 5; ++t) CHECK(ids(tracker.update({square(100, 100)})) == Ids{1});
  CHECK(ids(tracker.update({square(100, 100), square(300, 100)})) == Ids{1});
  CHECK(ids(tracker.update({square(100, 100), square(300, 100)})) == (Ids{1, 2}));
}

TEST(a_single_wrong_detection_takes_no_id) {
  Tracker tracker;
  for (int t = 0; t < 30; ++t) {
    std::vector<Detection> found = {square(100, 100)};
    if (t % 3 == 1) found.push_back(square(300 + 50 * (t % 4), 300));
    CHECK(ids(tracker.update(found)) == Ids{1});
  }
  CHECK(tracker.count() == 1);
}

TEST(ids_are_never_used_again) {
  TrackerOptions options;
  options.patience = 3;
  Tracker tracker(options);
  std::mt19937 random(7);
  std::map<int64_t, int> last;  // the frame in which an id was seen last
  int64_t highest = 0;
  for (int t = 0; t < 2000; ++t) {
    std::vector<Detection> found;
    for (int k = 0; k < 6; ++k) {
      if (random() % 8 != 0) found.push_back(square(60 * static_cast<int>(random() % 10), 60 * static_cast<int>(random() % 8)));
    }
    for (const int64_t id : ids(tracker.update(found))) {
      CHECK(last.count(id) != 0 ? t - last[id] <= options.patience + 1 : id > highest);
      last[id] = t;
    }
    for (const auto& [id, frame] : last) highest = std::max(highest, id);
  }
  CHECK(highest > 100);
  CHECK(highest == tracker.count());
}

TEST(classes_are_followed_apart) {
  Tracker tracker;
  for (int t = 0; t < 5; ++t) tracker.update({square(100, 100, 0.9, 0)});
  CHECK(tracker.update({square(100, 100, 0.9, 1)}).empty());
  const std::vector<Track> tracks = tracker.update({square(100, 100, 0.9, 1)});
  CHECK(ids(tracks) == Ids{2} && tracks[0].label == 1);
}

TEST(frames_that_a_camera_left_out_count_as_time) {
  Tracker tracker;
  for (int t = 0; t < 20; ++t) tracker.update({square(100 + 6 * t, 100)});
  CHECK(ids(tracker.update({square(100 + 6 * 29, 100)}, 10)) == Ids{1});  // 60 pixels further, more than its width
}

TEST(boxes_are_smoother_than_what_was_measured) {
  Tracker tracker;
  std::mt19937 random(3);
  std::normal_distribution<double> noise(0, 2);
  double measured = 0, tracked = 0;
  for (int t = 0; t < 300; ++t) {
    const double x = 100 + 3 * t, seen = x + noise(random);
    const Box box = tracker.update({square(seen, 100)})[0].box;
    if (t < 20) continue;
    measured += std::pow(seen - x, 2);
    tracked += std::pow((box.left + box.right) / 2 - x, 2);
  }
  CHECK(tracked < 0.7 * measured);
}

TEST(the_filter_is_the_one_of_the_books) {
  Axis axis(3, 2, 1);  // variances 4 and 1
  axis.predict(1, 1, 0.5);
  // P = F P F' + Q = [4 + 1 + 1, 1; 1, 1.25]
  axis.correct(9, std::sqrt(2.0));
  // K = [6, 1] / (6 + 2); x = [3, 0] + K * 6
  CHECK(std::fabs(axis.position() - 7.5) < 1e-12);
  CHECK(std::fabs(axis.speed() - 0.75) < 1e-12);
  // P = (1 - K H) P = [1.5, 0.25; 0.25, 1.125]; after a step P = [1.5 + 0.5 + 1.125 + 1, 0.25 + 1.125; ., 1.375]
  axis.predict(1, 1, 0.5);
  axis.correct(8.25 + 6.125, std::sqrt(2.0));
  CHECK(std::fabs(axis.position() - (8.25 + 4.125)) < 1e-12);
  CHECK(std::fabs(axis.speed() - (0.75 + 1.375)) < 1e-12);
}

TEST(the_filter_finds_a_constant_speed) {
  Axis axis(0, 1, 10);
  for (int t = 1; t <= 50; ++t) axis.predict(1, 0.01, 0.001), axis.correct(2.5 * t, 0.1);
  CHECK(std::fabs(axis.speed() - 2.5) < 0.01);
}

TEST(assignment_finds_the_largest_sum) {
  std::mt19937 random(11);
  for (int trial = 0; trial < 300; ++trial) {
    const size_t rows = random() % 5, columns = random() % 5;
    std::vector<std::vector<double>> gains(rows, std::vector<double>(columns));
    for (auto& row : gains) {
      for (double& gain : row) gain = random() % 3 == 0 ? 0 : static_cast<double>(random() % 1000) / 1000;
    }
    // All ways to give each row a column or none, by recursion.
    std::vector<bool> used(columns);
    const auto best = [&](const auto& self, size_t row) -> double {
      if (row == rows) return 0;
      double most = self(self, row + 1);
      for (size_t j = 0; j < columns; ++j) {
        if (used[j]) continue;
        used[j] = true;
        most = std::max(most, gains[row][j] + self(self, row + 1));
        used[j] = false;
      }
      return most;
    };
    const std::vector<int> taken = assign(gains);
    double sum = 0;
    std::set<int> columns_taken;
    for (size_t i = 0; i < rows; ++i) {
      if (taken[i] < 0) continue;
      const double gain = gains[i][static_cast<size_t>(taken[i])];
      CHECK(gain > 0 && columns_taken.insert(taken[i]).second);
      sum += gain;
    }
    CHECK(taken.size() == rows);
    CHECK(std::fabs(sum - best(best, 0)) < 1e-12);
  }
}
