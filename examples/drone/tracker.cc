#include "tracker.h"

#include <cmath>
#include <limits>

Axis::Axis(double position, double position_deviation, double speed_deviation)
    : position_(position), pp_(position_deviation * position_deviation), ss_(speed_deviation * speed_deviation) {}

void Axis::predict(double steps, double position_deviation, double speed_deviation) {
  position_ += speed_ * steps;
  pp_ += steps * (2 * ps_ + steps * ss_) + steps * position_deviation * position_deviation;
  ps_ += steps * ss_;
  ss_ += steps * speed_deviation * speed_deviation;
}

void Axis::correct(double position, double deviation) {
  const double total = pp_ + deviation * deviation;
  const double gain = pp_ / total, speed_gain = ps_ / total, miss = position - position_;
  position_ += gain * miss;
  speed_ += speed_gain * miss;
  ss_ -= speed_gain * ps_;
  ps_ -= gain * ps_;
  pp_ -= gain * pp_;
}

// The Hungarian method with potentials: rows join one by one, each along the shortest augmenting path. A row may always
// take a column of its own with gain 0, which stands for none.
std::vector<int> assign(const std::vector<std::vector<double>>& gains) {
  const size_t rows = gains.size(), real = rows == 0 ? 0 : gains[0].size(), columns = real + rows;
  const auto cost = [&](size_t row, size_t column) { return column < real ? -std::max(gains[row][column], 0.0) : 0.0; };
  const size_t free = rows;  // the row of a column that nobody has; column `columns` is where a search begins
  std::vector<double> row_potential(rows + 1), column_potential(columns + 1);
  std::vector<size_t> owner(columns + 1, free), before(columns + 1);
  for (size_t row = 0; row < rows; ++row) {
    std::vector<double> distance(columns + 1, std::numeric_limits<double>::infinity());
    std::vector<bool> reached(columns + 1);
    size_t column = columns;
    owner[column] = row;
    while (owner[column] != free) {
      reached[column] = true;
      size_t next = columns;
      double shortest = std::numeric_limits<double>::infinity();
      for (size_t j = 0; j < columns; ++j) {
        if (reached[j]) continue;
        const double d = cost(owner[column], j) - row_potential[owner[column]] - column_potential[j];
        if (d < distance[j]) distance[j] = d, before[j] = column;
        if (distance[j] < shortest) shortest = distance[j], next = j;
      }
      for (size_t j = 0; j <= columns; ++j) {
        if (reached[j]) {
          row_potential[owner[j]] += shortest, column_potential[j] -= shortest;
        } else {
          distance[j] -= shortest;
        }
      }
      column = next;
    }
    for (; column != columns; column = before[column]) owner[column] = owner[before[column]];
  }
  std::vector<int> taken(rows, -1);
  for (size_t j = 0; j < real; ++j) {
    if (owner[j] != free && gains[owner[j]][j] > 0) taken[owner[j]] = static_cast<int>(j);
  }
  return taken;
}

namespace {

// Deviations in parts of a box's size, as in DeepSORT (Wojke et al. 2017). With them the filter of the eight numbers
// (centre, size, their speeds) has no covariance between coordinates: it is four filters of two numbers.
constexpr double kPosition = 1.0 / 20, kSpeed = 1.0 / 160;

double size_of(const Box& box) { return (box.width() + box.height()) / 2; }

}  // namespace

Tracker::State::State(const Detection& d)
    : x((d.box.left + d.box.right) / 2, 2 * kPosition * size_of(d.box), 10 * kSpeed * size_of(d.box)),
      y((d.box.top + d.box.bottom) / 2, 2 * kPosition * size_of(d.box), 10 * kSpeed * size_of(d.box)),
      width(d.box.width(), 2 * kPosition * size_of(d.box), 10 * kSpeed * size_of(d.box)),
      height(d.box.height(), 2 * kPosition * size_of(d.box), 10 * kSpeed * size_of(d.box)),
      label(d.label),
      score(d.score) {}

Box Tracker::State::box() const {
  const double w = std::max(width.position(), 1.0) / 2, h = std::max(height.position(), 1.0) / 2;
  return {x.position() - w, y.position() - h, x.position() + w, y.position() + h};
}

void Tracker::State::predict(int steps) {
  if (unseen > 0) width.stop(), height.stop();  // what is not seen goes on, but does not grow
  const double size = size_of(box());
  for (Axis* axis : {&x, &y, &width, &height}) axis->predict(steps, kPosition * size, kSpeed * size);
  unseen += steps;
}

void Tracker::State::correct(const Detection& d) {
  // The box of what is half hidden is that of the visible half: the lower the score, the less it is believed (as in the
  // NSA filter of Du et al. 2021), so that speed and size stay those of the object.
  const double deviation = kPosition * size_of(d.box) / std::max(d.score, 0.05);
  x.correct((d.box.left + d.box.right) / 2, deviation);
  y.correct((d.box.top + d.box.bottom) / 2, deviation);
  width.correct(d.box.width(), deviation);
  height.correct(d.box.height(), deviation);
  score = d.score;
  unseen = 0;
}

void Tracker::match(std::vector<State*>& rows, std::vector<const Detection*>& columns, double least) {
  std::vector<std::vector<double>> gains(rows.size(), std::vector<double>(columns.size()));
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < columns.size(); ++j) {
      const double common = rows[i]->label == columns[j]->label ? overlap(rows[i]->box(), columns[j]->box) : 0;
      gains[i][j] = common >= least ? common : 0;
    }
  }
  const std::vector<int> taken = assign(gains);
  std::vector<State*> rest;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (taken[i] < 0) {
      rest.push_back(rows[i]);
    } else {
      const Detection*& detection = columns[static_cast<size_t>(taken[i])];
      rows[i]->correct(*detection);
      detection = nullptr;
    }
  }
  rows = rest;
  columns.erase(std::remove(columns.begin(), columns.end(), nullptr), columns.end());
}

std::vector<Track> Tracker::update(const std::vector<Detection>& detections, int steps) {
  std::vector<const Detection*> sure, unsure;
  for (const Detection& d : detections) {
    if (d.score >= options_.high) {
      sure.push_back(&d);
    } else if (d.score >= options_.low) {
      unsure.push_back(&d);
    }
  }
  std::vector<State*> known, fresh;
  for (State& s : states_) {
    s.predict(steps);
    (s.id != 0 ? known : fresh).push_back(&s);
  }
  // 1. Sure detections go to known tracks, seen or not. 2. Unsure ones to those that were there a frame ago: what is
  // half hidden scores low, and so does nothing at all. 3. A track that was seen once needs a second sure detection.
  match(known, sure, options_.match);
  known.erase(std::remove_if(known.begin(), known.end(), [&](State* s) { return s->unseen > steps; }), known.end());
  match(known, unsure, options_.match_low);
  match(fresh, sure, options_.match);
  const auto gone = [&](const State& s) { return s.unseen > (s.id != 0 ? options_.patience : 0); };
  states_.erase(std::remove_if(states_.begin(), states_.end(), gone), states_.end());
  for (State& s : states_) {
    if (s.id == 0) s.id = ++last_id_;
  }
  for (const Detection* d : sure) {
    states_.emplace_back(*d);
    if (!started_) states_.back().id = ++last_id_;  // in the first frame nothing can be seen twice
  }
  started_ = true;
  std::vector<Track> seen;
  for (const State& s : states_) {
    if (s.id != 0 && s.unseen == 0) seen.push_back({s.id, s.box(), s.label, s.score});
  }
  return seen;
}
