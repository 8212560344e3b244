// Numbers and times for people. What is missing is a dash.
export const DASH = "–";

const LOCALE = undefined; // the reader's
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });

function digits(value, significant = 3) {
  return new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: significant }).format(value);
}

export function count(value) {
  return value == null ? DASH : whole.format(value);
}

export function plural(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

export function rate(value) {
  if (value == null) return DASH;
  return value >= 100 ? whole.format(value) : value.toFixed(value >= 10 ? 1 : 2);
}

export function share(value) {
  if (value == null) return DASH;
  if (value === 0 || value === 1) return `${value * 100} %`;
  const percent = value * 100;
  if (percent > 99 && percent < 100) return `${(Math.floor(percent * 1000) / 1000).toFixed(3)} %`;
  return `${percent < 0.01 ? "< 0.01" : digits(percent)} %`;
}

export function seconds(value) {
  if (value == null) return DASH;
  if (value < 1e-3) return `${digits(value * 1e6)} µs`;
  if (value < 1) return `${digits(value * 1e3)} ms`;
  return value < 100 ? `${digits(value)} s` : age(value);
}

export function age(value) {
  if (value == null) return DASH;
  const steps = [
    [86400, "d", 3600, "h"],
    [3600, "h", 60, "min"],
    [60, "min", 1, "s"],
  ];
  for (const [size, unit, small, smallUnit] of steps) {
    if (value >= size) {
      const rest = Math.floor((value % size) / small);
      return `${Math.floor(value / size)} ${unit}${rest ? ` ${rest} ${smallUnit}` : ""}`;
    }
  }
  return `${Math.max(0, Math.round(value))} s`;
}

export function number(value, significant = 4) {
  if (value == null) return DASH;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace("e+", "e");
  return digits(value, significant);
}

export function pValue(value) {
  if (value == null) return DASH;
  return value !== 0 && value < 1e-3 ? value.toExponential(1) : digits(value, 2);
}

export function bytes(value) {
  if (value == null) return DASH;
  const units = ["B", "KiB", "MiB", "GiB"];
  let index = 0;
  while (value >= 1024 && index < units.length - 1) {
    value /= 1024;
    index += 1;
  }
  return `${digits(value)} ${units[index]}`;
}

export function clock(unixSeconds) {
  return new Date(unixSeconds * 1000).toLocaleTimeString(LOCALE, { hour12: false });
}

export function moment(unixSeconds) {
  const then = new Date(unixSeconds * 1000);
  const today = then.toDateString() === new Date().toDateString();
  return today ? clock(unixSeconds) : then.toLocaleString(LOCALE, { hour12: false });
}

// "server_error" -> "server error"
export function words(name) {
  return name.replaceAll("_", " ");
}

export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
