#include "pareto_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "svg_text.h"

namespace larder {
namespace {

constexpr double kWidth = 760, kHeight = 460, kLeft = 76, kRight = 28, kTop = 48, kBottom = 56;
constexpr double kRadius = 5, kMostRadius = 12;

/// Places of values on the picture: both axes are logarithmic.
struct Axes {
  double low_bytes = 1, high_bytes = 2;  // powers of two
  double low_decade = -6, high_decade = 0, most_speed = 0;

  double x(double bytes) const {
    const double share =
        std::log2(std::max(bytes, low_bytes) / low_bytes) / std::log2(high_bytes / low_bytes);
    return kLeft + share * (kWidth - kLeft - kRight);
  }
  double y(double kl) const {
    const double decade = kl > 0 ? std::max(std::log10(kl), low_decade) : low_decade;
    const double share = (decade - low_decade) / (high_decade - low_decade);
    return kHeight - kBottom - share * (kHeight - kTop - kBottom);
  }
  double radius(double speed) const {
    return most_speed > 0 && speed > 0 ? std::max(2.5, kMostRadius * std::sqrt(speed / most_speed))
                                       : kRadius;
  }
};

bool is_finite(const ParetoPoint& point) {
  return std::isfinite(point.bytes_per_token) && std::isfinite(point.kl) &&
         std::isfinite(point.speed);
}

Axes axes_for(std::span<const ParetoPoint> points) {
  Axes axes;
  double least_kl = 1, most_kl = 1e-6, least_bytes = INFINITY, most_bytes = 1;
  for (const ParetoPoint& point : points) {
    least_bytes = std::min(least_bytes, point.bytes_per_token);
    most_bytes = std::max(most_bytes, point.bytes_per_token);
    axes.most_speed = std::max(axes.most_speed, point.speed);
    if (point.kl > 0) least_kl = std::min(least_kl, point.kl);
    most_kl = std::max(most_kl, point.kl);
  }
  // At least one doubling, with room beyond the largest.
  axes.low_bytes = std::exp2(std::floor(std::log2(std::clamp(least_bytes, 1.0, most_bytes))));
  axes.high_bytes = std::max(2 * axes.low_bytes, std::exp2(std::ceil(std::log2(1.1 * most_bytes))));
  axes.low_decade = std::clamp(std::floor(std::log10(least_kl)) - 1, -9.0, 0.0);
  axes.high_decade = std::max(axes.low_decade + 1, std::ceil(std::log10(most_kl)));
  return axes;
}

std::string grid(const Axes& axes) {
  std::string svg;
  for (double decade = axes.low_decade; decade <= axes.high_decade; ++decade) {
    const double y = axes.y(std::pow(10.0, decade));
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
        kLeft, kWidth - kRight, y, y, kLeft - 8, y + 4,
        decade == axes.low_decade ? "0" : fmt::format("1e{:.0f}", decade));
  }
  // Some eight ticks at most.
  const double doublings = std::log2(axes.high_bytes / axes.low_bytes);
  const double step = std::exp2(std::ceil(doublings / 8));
  for (double bytes = axes.low_bytes; bytes <= axes.high_bytes; bytes *= step) {
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\"/>"
        "<text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4:.0f}</text>\n",
        axes.x(bytes), kTop, kHeight - kBottom, kHeight - kBottom + 18, bytes);
  }
  return svg + fmt::format(
                   "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">bytes per token</text>\n"
                   "<text x=\"8\" y=\"{}\">mean KL, nats</text>\n",
                   kWidth - kRight, kHeight - 14, kTop - 12);
}

/// Points that none other beats in bytes and KL, from few bytes to many.
std::string frontier(const Axes& axes, std::vector<ParetoPoint> points) {
  std::sort(points.begin(), points.end(), [](const ParetoPoint& a, const ParetoPoint& b) {
    return a.bytes_per_token != b.bytes_per_token ? a.bytes_per_token < b.bytes_per_token
                                                  : a.kl < b.kl;
  });
  std::string path;
  double best = INFINITY;
  for (const ParetoPoint& point : points) {
    if (point.kl >= best) continue;
    best = point.kl;
    path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", axes.x(point.bytes_per_token),
                        axes.y(point.kl));
  }
  return fmt::format("<polyline class=\"front\" points=\"{}\"/>\n", path);
}

/// A rectangle of the picture.
struct Box {
  double x, y, width, height;

  bool meets(const Box& other) const {
    return x < other.x + other.width && other.x < x + width && y < other.y + other.height &&
           other.y < y + height;
  }
};

/// Where a point's name stands: beside it, or as near as no other name or point is in the way.
Box free_place(const std::vector<Box>& taken, const Box& point, std::size_t n_letters) {
  constexpr double kLetter = 6.8, kLine = 13, kGap = 3;
  const double width = kLetter * static_cast<double>(n_letters);
  const double right = point.x + point.width + kGap, left = point.x - width - kGap;
  const double middle = point.y + point.height / 2 - kLine / 2;
  Box place{right + width > kWidth ? left : right, middle, width, kLine};
  for (int i = 0; i < 40; ++i) {
    // To and fro: 0, 1 down, 1 up, 2 down, ...; right and left of the point.
    const double shift = (i / 2 % 2 == 0 ? 1.0 : -1.0) * ((i / 2 + 1) / 2) * kLine;
    const Box candidate{i % 2 == 0 ? right : left, middle + shift, width, kLine};
    const bool inside = candidate.x >= 0 && candidate.x + width <= kWidth &&
                        candidate.y >= kTop - kLine && candidate.y <= kHeight - kBottom;
    const auto is_met = [&candidate](const Box& other) { return other.meets(candidate); };
    if (inside && std::none_of(taken.begin(), taken.end(), is_met)) return candidate;
  }
  return place;
}

Box circle_box(const Axes& axes, const ParetoPoint& point) {
  const double x = axes.x(point.bytes_per_token), y = axes.y(point.kl);
  const double radius = axes.radius(point.speed);
  return {x - radius, y - radius, 2 * radius, 2 * radius};
}

std::string circle(const Axes& axes, const ParetoPoint& point) {
  const std::string speed =
      point.speed > 0 ? fmt::format(", {:.1f} tokens/s", point.speed) : std::string();
  return fmt::format(
      "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"><title>{}: {:.0f} bytes per token, KL "
      "{:.6f}{}</title></circle>\n",
      axes.x(point.bytes_per_token), axes.y(point.kl), axes.radius(point.speed),
      xml_text(point.name), point.bytes_per_token, point.kl, speed);
}

/// All points, then all names, so that no point covers one.
std::string marks(const Axes& axes, const std::vector<ParetoPoint>& points) {
  std::string svg;
  std::vector<Box> taken;
  for (const ParetoPoint& point : points) {
    svg += circle(axes, point);
    taken.push_back(circle_box(axes, point));
  }
  for (const ParetoPoint& point : points) {
    const Box place = free_place(taken, circle_box(axes, point), point.name.size());
    taken.push_back(place);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", place.x,
                       place.y + place.height - 3, xml_text(point.name));
  }
  return svg;
}

}  // namespace

std::string pareto_chart(std::span<const ParetoPoint> points, const std::string& title) {
  std::vector<ParetoPoint> drawn;
  std::copy_if(points.begin(), points.end(), std::back_inserter(drawn), is_finite);
  const Axes axes = axes_for(drawn);
  std::string body = fmt::format("<text x=\"8\" y=\"18\">{}</text>\n", xml_text(title));
  body += grid(axes) + frontier(axes, drawn) + marks(axes, drawn);
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
             "role=\"img\">\n"
             "<style>text{{font:13px system-ui,sans-serif;fill:#24292f}}.grid{{stroke:#8884}}"
             ".front{{fill:none;stroke:#1a7f37;stroke-width:2;stroke-dasharray:5 4}}"
             "circle{{fill:#0969da88;stroke:#0969da;stroke-width:2}}"
             "@media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}}}</style>\n",
             kWidth, kHeight) +
         body + "</svg>\n";
}

}  // namespace larder
