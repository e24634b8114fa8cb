// The only file that includes Eigen: its templates take seconds to compile.
#include "model/surgery/matrix.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <complex>
#include <iterator>

#include "base/check.h"

namespace larder {
namespace {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Eigen::Map<const RowMajor> mapped(const Matrix& a) {
  return {a.values.data(), static_cast<Eigen::Index>(a.rows), static_cast<Eigen::Index>(a.cols)};
}
Eigen::Map<RowMajor> mapped(Matrix& a) {
  return {a.values.data(), static_cast<Eigen::Index>(a.rows), static_cast<Eigen::Index>(a.cols)};
}

/// Eigen sorts values upwards; we want the largest first.
std::vector<double> falling(const Eigen::VectorXd& values) {
  return {std::reverse_iterator(values.end()), std::reverse_iterator(values.begin())};
}

}  // namespace

Matrix rows_of(const Matrix& a, std::size_t first, std::size_t n) {
  LARDER_CHECK(first + n <= a.rows);
  Matrix out(n, a.cols);
  const auto begin = a.values.begin() + static_cast<std::ptrdiff_t>(first * a.cols);
  std::copy(begin, begin + static_cast<std::ptrdiff_t>(n * a.cols), out.values.begin());
  return out;
}

Matrix columns_of(const Matrix& a, std::size_t first, std::size_t n) {
  LARDER_CHECK(first + n <= a.cols);
  Matrix out(a.rows, n);
  for (std::size_t r = 0; r < a.rows; ++r) {
    for (std::size_t c = 0; c < n; ++c) out(r, c) = a(r, first + c);
  }
  return out;
}

Matrix transposed(const Matrix& a) {
  Matrix out(a.cols, a.rows);
  mapped(out) = mapped(a).transpose();
  return out;
}

Matrix multiply(const Matrix& a, const Matrix& b) {
  LARDER_CHECK(a.cols == b.rows);
  Matrix out(a.rows, b.cols);
  mapped(out).noalias() = mapped(a) * mapped(b);
  return out;
}

Matrix multiply_transposed(const Matrix& a, const Matrix& b) {
  LARDER_CHECK(a.cols == b.cols);
  Matrix out(a.rows, b.rows);
  mapped(out).noalias() = mapped(a) * mapped(b).transpose();
  return out;
}

void add_outer_products(std::span<const double> rows, std::size_t n_cols, Matrix& sum) {
  LARDER_CHECK(sum.rows == n_cols && sum.cols == n_cols && rows.size() % n_cols == 0);
  const Eigen::Map<const RowMajor> x(rows.data(), static_cast<Eigen::Index>(rows.size() / n_cols),
                                     static_cast<Eigen::Index>(n_cols));
  mapped(sum).noalias() += x.transpose() * x;
}

SymmetricEigen eigen_symmetric(const Matrix& a) {
  LARDER_CHECK(a.rows == a.cols);
  const Eigen::MatrixXd symmetric = 0.5 * (mapped(a) + mapped(a).transpose());
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(symmetric);
  SymmetricEigen out{falling(solver.eigenvalues()), Matrix(a.rows, a.cols)};
  mapped(out.vectors) = solver.eigenvectors().transpose().colwise().reverse();
  return out;
}

HermitianEigen eigen_hermitian(const Matrix& re, const Matrix& im) {
  LARDER_CHECK(re.rows == re.cols && im.rows == re.rows && im.cols == re.cols);
  const std::complex<double> i(0, 1);
  const Eigen::MatrixXcd full =
      mapped(re).cast<std::complex<double>>() + i * mapped(im).cast<std::complex<double>>();
  const Eigen::MatrixXcd hermitian = 0.5 * (full + full.adjoint());
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXcd> solver(hermitian);
  HermitianEigen out{falling(solver.eigenvalues()), Matrix(re.rows, re.rows),
                     Matrix(re.rows, re.rows)};
  const Eigen::MatrixXcd vectors = solver.eigenvectors().transpose().colwise().reverse();
  mapped(out.re) = vectors.real();
  mapped(out.im) = vectors.imag();
  return out;
}

RootPair symmetric_root(const Matrix& a) {
  constexpr double kZero = 1e-12;
  const SymmetricEigen eigen = eigen_symmetric(a);
  const std::size_t n = a.rows;
  const double floor = n == 0 ? 0 : kZero * std::max(eigen.values[0], 0.0);
  Matrix scaled(n, n), inverse(n, n);  // rows times the root of the eigenvalue, and divided by it
  for (std::size_t j = 0; j < n; ++j) {
    if (eigen.values[j] <= floor) continue;
    const double root = std::sqrt(eigen.values[j]);
    for (std::size_t c = 0; c < n; ++c) {
      scaled(j, c) = root * eigen.vectors(j, c);
      inverse(j, c) = eigen.vectors(j, c) / root;
    }
  }
  const Matrix back = transposed(eigen.vectors);
  return {multiply(back, scaled), multiply(back, inverse)};
}

}  // namespace larder
