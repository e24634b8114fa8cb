// Memory against quality as a picture.
#pragma once

#include <span>
#include <string>

namespace larder {

struct ParetoPoint {
  std::string name;
  double bytes_per_token = 0;
  double kl = 0;     // mean, nats; 0 is drawn at the lower edge
  double speed = 0;  // tokens per second; 0: not measured
};

/// An SVG: bytes across, KL down, both on logarithmic scales, area of a point by speed. A line
/// joins the points that no other beats in both. Legible on light and on dark pages.
std::string pareto_chart(std::span<const ParetoPoint> points, const std::string& title);

}  // namespace larder
