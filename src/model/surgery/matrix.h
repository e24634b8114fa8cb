// Dense matrices in double precision for work on checkpoints, and the decompositions it needs.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace larder {

/// Row-major [rows, cols], zeroed at construction.
struct Matrix {
  std::size_t rows = 0, cols = 0;
  std::vector<double> values;

  Matrix() = default;
  Matrix(std::size_t n_rows, std::size_t n_cols)
      : rows(n_rows), cols(n_cols), values(n_rows * n_cols) {}
  double& operator()(std::size_t r, std::size_t c) noexcept { return values[r * cols + c]; }
  double operator()(std::size_t r, std::size_t c) const noexcept { return values[r * cols + c]; }
  std::span<double> row(std::size_t r) noexcept {
    return std::span(values).subspan(r * cols, cols);
  }
  std::span<const double> row(std::size_t r) const noexcept {
    return std::span(values).subspan(r * cols, cols);
  }
};

/// Rows [first, first + n) as a matrix of their own.
Matrix rows_of(const Matrix& a, std::size_t first, std::size_t n);
/// Columns [first, first + n) as a matrix of their own.
Matrix columns_of(const Matrix& a, std::size_t first, std::size_t n);
Matrix transposed(const Matrix& a);

/// a b. REQUIRES: a.cols == b.rows.
Matrix multiply(const Matrix& a, const Matrix& b);
/// a b^T. REQUIRES: a.cols == b.cols.
Matrix multiply_transposed(const Matrix& a, const Matrix& b);

/// sum += the outer products of rows [n, n_cols] with themselves. REQUIRES: sum [n_cols, n_cols].
void add_outer_products(std::span<const double> rows, std::size_t n_cols, Matrix& sum);

/// Eigenvectors of a symmetric matrix by falling eigenvalue. vectors [n, n]: one a row,
/// orthonormal.
struct SymmetricEigen {
  std::vector<double> values;
  Matrix vectors;
};
/// REQUIRES: square and finite; only the symmetric part counts.
SymmetricEigen eigen_symmetric(const Matrix& a);

/// The same for a Hermitian matrix re + i im; row j of (re, im) is vector j.
struct HermitianEigen {
  std::vector<double> values;
  Matrix re, im;
};
HermitianEigen eigen_hermitian(const Matrix& re, const Matrix& im);

/// Square root of a positive semi-definite matrix and the (pseudo-)inverse of that root. Directions
/// below 1e-12 of the largest eigenvalue count as zero.
struct RootPair {
  Matrix root, inverse;
};
RootPair symmetric_root(const Matrix& a);

}  // namespace larder
